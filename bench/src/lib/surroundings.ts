// What must be known to judge a number later.
import { cpus, release } from 'node:os'
import type { Results } from './benchmark.ts'
import { peerVersion } from './guest-process.ts'

/** The machine, the runtime and the peer of this run. */
export function surroundings(quick: boolean): Results {
  return {
    node: process.version,
    cpu: cpus()[0]?.model ?? 'unknown',
    cores: cpus().length,
    kernel: release(),
    peer: peerVersion() ?? 'not installed',
    ...(quick ? { quick: 'yes' } : {}),
  }
}
