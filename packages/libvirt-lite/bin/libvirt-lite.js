#!/usr/bin/env node
// The command must exist before the first build, because package managers link it when they install.
import { setFlagsFromString } from 'node:v8'

// A daemon works in bursts, most of them over before V8 has compiled what they need: to compile with less inlined takes a
// third less of the processor that clients run on (decision 19).
setFlagsFromString('--max-inlined-bytecode-size-cumulative=200')
await import('../dist/bundle/libvirt-lite.js')
