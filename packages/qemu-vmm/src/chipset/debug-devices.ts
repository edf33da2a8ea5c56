import { defineDevice } from '../device.ts'
import type { DeviceDefinition } from '../device.ts'

const DEBUGCON_PORT = 0xe9
const DEBUGCON_PRESENT = 0xe9
const DEBUG_EXIT_PORT = 0x501

/**
 * A byte-wide debug console, at port 0xe9 unless `base` says otherwise. Reads tell a guest that it
 * is there. `write` gets the bytes.
 */
export function debugcon(options: {
  base?: number
  /** What reads give; 0xe9 by default. */
  readback?: number
  write: (byte: number) => void
}): DeviceDefinition {
  return defineDevice({
    name: 'debugcon',
    pio: { base: options.base ?? DEBUGCON_PORT, len: 1 },
    access: { max: 1 },
    create: () => ({
      read: () => options.readback ?? DEBUGCON_PRESENT,
      write: (_offset, _size, value) => options.write(value),
      reset() {},
      save: () => ({}),
      load() {},
    }),
  })
}

/**
 * Lets a guest end the machine: writing `v` to one of the `len` ports (4 from 0x501, unless the
 * options say otherwise) ends it with exit status `(v << 1) | 1`, which is never 0.
 */
export function debugExit(options: { base?: number; len?: number } = {}): DeviceDefinition {
  return defineDevice({
    name: 'debug-exit',
    pio: { base: options.base ?? DEBUG_EXIT_PORT, len: options.len ?? 4 },
    create: ({ exit }) => ({
      read: () => 0,
      write: (_offset, _size, value) => exit(((value << 1) | 1) & 0xff),
      reset() {},
      save: () => ({}),
      load() {},
    }),
  })
}
