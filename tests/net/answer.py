# SPDX-License-Identifier: Apache-2.0
"""Answers each SYN to port TYPE * 256 + CODE, TYPE not 0, with that ICMP or ICMPv6 error.

  answer.py INTERFACE IPV4 IPV6    whose SYNs come in there; it says "ready"
"""
import socket
import struct
import sys

ETH_P_IP, ETH_P_IPV6 = 0x0800, 0x86DD
SYN, ACK = 2, 16
interface, near4, near6 = sys.argv[1:]


def checksum(data):
    total = sum(struct.unpack(f"!{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def error(type_, code, quoted, summed):
    head = struct.pack("!BBHI", type_, code, 0, 0)
    if summed:
        head = struct.pack("!BBHI", type_, code, checksum(head + quoted), 0)
    return head + quoted


def main():
    packets = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(3))
    packets.bind((interface, 3))
    icmp4 = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    icmp6 = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    print("ready", flush=True)
    while True:
        packet, (_, protocol, kind, *_) = packets.recvfrom(2048)
        head = {ETH_P_IP: 20, ETH_P_IPV6: 40}.get(protocol)
        if kind != socket.PACKET_HOST or not head or len(packet) < head + 20:
            continue
        if packet[9 if head == 20 else 6] != socket.IPPROTO_TCP:
            continue
        type_, code, flags = packet[head + 2], packet[head + 3], packet[head + 13]
        if not type_ or flags & (SYN | ACK) != SYN:
            continue
        quoted = packet[: head + 20]
        if head == 20:
            icmp4.sendto(error(type_, code, quoted, True), (near4, 0))
        else:  # the kernel makes that checksum
            icmp6.sendto(error(type_, code, quoted, False), (near6, 0))


main()
