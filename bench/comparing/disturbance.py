"""What else the machine did while a run went on: time that its host stole, and what others' processes used."""

import os
import time

from comparing.programs import Server


def machine_ticks() -> list[int]:
    """user, nice, system, idle, iowait, irq, softirq, steal of all processors since the start."""
    with open("/proc/stat", encoding="utf-8") as file:
        return [int(word) for word in file.readline().split()[1:9]]


class Watch:
    """From its making on. Programs that a run starts and ends are ours, and so are the servers."""

    def __init__(self, servers: list[Server] = []):
        self.servers = list(servers)
        self.start = time.monotonic()
        self.before, self.own_before = machine_ticks(), self.own()

    def seconds(self) -> float:
        return time.monotonic() - self.start

    def own(self) -> float:
        return sum(os.times()[:4]) + sum(server.cpu_seconds() for server in self.servers)

    def shares(self) -> dict[str, float]:
        """Of all processors' time since the start."""
        passed = [now - before for now, before in zip(machine_ticks(), self.before)]
        everything = max(1, sum(passed))
        busy = everything - passed[3] - passed[4] - passed[7]  # neither idle, nor waiting, nor stolen
        ours = (self.own() - self.own_before) * os.sysconf("SC_CLK_TCK")
        return {"stolen": passed[7] / everything, "others": max(0.0, busy - ours) / everything}
