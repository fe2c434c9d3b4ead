/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Messages for people, on standard error, one line each: "program: what, which object, why; what to
 * try". Under systemd ($JOURNAL_STREAM) lines carry the <n> priority that the journal reads.
 */
#ifndef DMM_BASE_LOG_H
#define DMM_BASE_LOG_H

enum log_level { LOG_L_ERROR = 3, LOG_L_WARNING = 4, LOG_L_INFO = 6, LOG_L_DEBUG = 7 };

/* name: a string that stays. Messages above max_level are dropped. */
void log_init(const char *name, enum log_level max_level);
void log_at(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_err(...) log_at(LOG_L_ERROR, __VA_ARGS__)
#define log_warn(...) log_at(LOG_L_WARNING, __VA_ARGS__)
#define log_info(...) log_at(LOG_L_INFO, __VA_ARGS__)
#define log_debug(...) log_at(LOG_L_DEBUG, __VA_ARGS__)

#endif
