/* SPDX-License-Identifier: BSD-2-Clause */
#ifndef LOL_CPUS_H
#define LOL_CPUS_H

/*
 * Order the n host CPUs in cpu[] (ascending, at most CPU_SETSIZE) for a machine that begins on `here`: that one first, then those that share a
 * cache of level 3 with it, then the others, and last the threads of its own core. sysfs: where cpuN/topology and
 * cpuN/cache are; what is not there counts as near. (Linux, Documentation/ABI/stable/sysfs-devices-system-cpu)
 */
void cpus_order(const char *sysfs, int *cpu, unsigned n, int here);

#endif
