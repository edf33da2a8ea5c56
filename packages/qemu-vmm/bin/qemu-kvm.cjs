#!/usr/bin/env -S node --v8-pool-size=1 --max-semi-space-size=2
// One thread compiles JavaScript, so that vCPUs are not kept from their processors while the devices' code is young; and
// this thread, which only talks to the terminal, needs no room for garbage. Only the start of a process can say so.
//
// The command must exist before the first build, because package managers link it when they install.
require('../dist/scripts/qemu-kvm.cjs')
