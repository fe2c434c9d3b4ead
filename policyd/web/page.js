// SPDX-License-Identifier: Apache-2.0
// The page: asks the JSON API every few seconds and draws what it got. Text goes in as text only.
"use strict";

const PERIOD_MS = 5000;
const SERIES = 8; // stacks in a chart
const DECISIONS = 100; // of nRD, the last ones
const INK = ["#0969da", "#bc4c00", "#1a7f37", "#8250df", "#bf3989", "#9a6700", "#0a7d91", "#6e7781"];
const RTT_EDGES_US = Array.from({ length: 22 }, (_, i) => 2 ** i);

const $ = (id) => document.getElementById(id);
const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const charts = {};

async function get(path) {
	const r = await fetch(path, { cache: "no-store" });
	if (!r.ok) throw new Error(path + ": " + r.status);
	return r.json();
}

function short(n) {
	for (const unit of ["", "k", "M", "G", "T"]) {
		if (n < 1000 || unit === "T") return (n < 10 && unit ? n.toFixed(1) : Math.round(n)) + unit;
		n /= 1000;
	}
}

function time(us) {
	return us < 1000 ? us + " us" : us < 1e6 ? Math.round(us / 1000) + " ms" : Math.round(us / 1e6) + " s";
}

function fill(table, head, rows) {
	table.replaceChildren();
	const add = (cells, tag) => {
		const tr = table.insertRow();
		cells.forEach((cell) => {
			const td = document.createElement(tag);
			const [text, kind] = Array.isArray(cell) ? cell : [cell, typeof cell === "number" ? "number" : ""];
			td.textContent = typeof text === "number" ? text.toLocaleString("en") : text;
			td.className = kind;
			tr.append(td);
		});
	};
	add(head, "th");
	rows.forEach((row) => add(row, "td"));
}

function draw(id, options, data) {
	const at = $(id);
	if (typeof uPlot === "undefined") {
		at.textContent = "This dmm-policyd was built without the chart library.";
		return;
	}
	const axis = () => ({ stroke: color("--dim"), grid: { stroke: color("--line"), width: 1 } });
	const key = JSON.stringify([options.series.map((s) => s.label), color("--dim")]);
	if (charts[id] && charts[id].key === key) {
		charts[id].plot.setData(data);
		return;
	}
	if (charts[id]) charts[id].plot.destroy();
	const [x, y] = [axis(), axis()];
	if (options.x) x.values = options.x;
	y.incrs = [1, 2, 5].flatMap((n) => Array.from({ length: 15 }, (_, k) => n * 10 ** k)).sort((a, b) => a - b);
	y.values = (u, ticks) => ticks.map(short);
	const plot = new uPlot({ width: at.clientWidth, height: 220, scales: options.scales || {}, axes: [x, y],
		legend: { live: false }, cursor: { show: false }, series: options.series }, data, at);
	charts[id] = { key, plot };
}

// lines(ID, SAMPLES): of {t, value: {stack: number or null}}
function lines(id, samples) {
	const names = [...new Set(samples.flatMap((s) => Object.keys(s.value)))].slice(0, SERIES);
	const series = [{}].concat(names.map((label, i) => ({ label, stroke: INK[i], width: 2 })));
	draw(id, { series, scales: { y: { range: (u, min, max) => [0, Math.max(max, 1)] } } },
		[samples.map((s) => s.t)].concat(names.map((n) => samples.map((s) => s.value[n] ?? null))));
}

// What a counter of the stacks grew by a second. It begins anew when the stack does.
function rates(samples, counter) {
	return samples.slice(1).map((s, i) => {
		const value = {};
		for (const [name, now] of Object.entries(s.stacks)) {
			const before = samples[i].stacks[name];
			if (!(counter in now)) continue;
			const d = before && counter in before ? now[counter] - before[counter] : -1;
			value[name] = d < 0 ? null : d / (s.t - samples[i].t);
		}
		return { t: s.t, value };
	});
}

// How many of values = [[us, count], …] are in each octave, in percent of all.
function octaves(values) {
	const n = RTT_EDGES_US.map(() => 0);
	values.forEach(([us, count]) => { n[Math.min(Math.floor(Math.log2(Math.max(us, 1))), n.length - 1)] += count; });
	const all = n.reduce((sum, c) => sum + c, 0);
	return n.map((c) => 100 * c / all);
}

// Round trips: of what is open on the kernel stack now, and of the measured connections of each stack.
function histogram(flows, measured) {
	const paths = typeof uPlot === "undefined" ? {} : uPlot.paths;
	const open = flows.filter((f) => f.carrier === "none" && f.srtt_us > 0).map((f) => [f.srtt_us, 1]);
	const rows = open.length ? [["open, on the kernel", open]] : [];
	Object.entries(measured).forEach(([name, m]) => { if (m.rtt_us.length) rows.push([name, m.rtt_us]); });
	const series = rows.slice(0, SERIES).map(([label], i) => ({ label, stroke: INK[i], width: 2, points: { show: false },
		...(i === 0 ? { fill: INK[i] + "60", paths: paths.bars && paths.bars({ size: [0.9, 60] }) }
			: { paths: paths.stepped && paths.stepped({ align: 0 }) }) }));
	draw("rtt", {
		series: [{}].concat(series),
		scales: { x: { time: false }, y: { range: (u, min, max) => [0, Math.max(max || 0, 1)] } },
		x: (u, ticks) => ticks.map((t) => Number.isInteger(t) && t >= 0 ? time(2 ** t) : ""),
	}, [RTT_EDGES_US.map((_, i) => i)].concat(rows.slice(0, SERIES).map(([, values]) => octaves(values))));
}

async function turn() {
	try {
		const [{ stacks }, stats, { flows }, history, { decisions }] = await Promise.all(
			["/v1/stacks", "/v1/stats", "/v1/flows?limit=2000", "/v1/history", "/v1/nrd/history"].map(get));
		const samples = history.samples.map((s) => ({ t: s.at_ms / 1000, stacks: s.stacks }));
		const bytes = rates(samples, "bytes");
		const rate = bytes.length ? bytes[bytes.length - 1].value : {};
		const total = (s) => {
			const c = stats.instances[s.name];
			const m = stats.measured[s.name];
			return c ? short(c.carrier_receive_bytes + c.carrier_transmit_bytes)
				: m ? short(m.receive_bytes + m.transmit_bytes) : "-";
		};
		fill($("stacks"), ["stack", "kind", "state", ["sockets", "number"], ["bytes", "number"], ["bytes/s", "number"]],
			stacks.map((s) => [s.name, s.engine ? s.kind + " " + s.engine : s.kind,
				s.off ? ["off", "bad"] : s.up || s.kind !== "userspace" ? ["up", "good"] : ["down", "bad"],
				s.sockets, [total(s), "number"],
				[rate[s.name] == null ? "-" : short(rate[s.name]), "number"]]));
		fill($("rules"), ["rule", ["hits", "number"]],
			stats.rules.sort((a, b) => b.hits - a.hits).slice(0, 100).map((r) => [r.name, r.hits])
				.concat([["(default)", stats.default_hits]]));
		lines("sockets", samples.map((s) => ({ t: s.t, value:
			Object.fromEntries(Object.entries(s.stacks).map(([name, v]) => [name, v.sockets])) })));
		lines("bytes", bytes);
		histogram(flows, stats.measured);
		fill($("nrd"), [["ago", "number"], "rule", "for", "decision"],
			decisions.slice(0, DECISIONS).map((d) => [[time(1e6 * d.age_s), "number"], d.rule, d.remote || "all", [d.text, "text"]]));
		if (!decisions.length) fill($("nrd"), ["None yet, or no rule is left to nRD."], []);
		const down = stacks.filter((s) => s.kind === "userspace" && !s.up && !s.off);
		$("health").textContent = down.length ? down.map((s) => s.name).join(", ") + " down" : "all stacks up";
		$("health").className = down.length ? "bad" : "good";
		$("generation").textContent = "generation " + stats.generation;
	} catch (e) {
		$("health").textContent = "no answer: " + e.message;
		$("health").className = "bad";
	}
	setTimeout(turn, PERIOD_MS);
}

addEventListener("resize", () => {
	for (const [id, c] of Object.entries(charts)) c.plot.setSize({ width: $(id).clientWidth, height: 220 });
});
turn();
