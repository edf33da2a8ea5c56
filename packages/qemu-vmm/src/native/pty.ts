/** The addon's pseudo-terminals. */

import { addon } from './addon.ts'

/** Bits of {@link NativePty.poll}. */
export const PTY_READABLE = 1
export const PTY_WRITABLE = 2
/** Nobody has the other end open. */
export const PTY_HUNG_UP = 4

/** The master's side of one. The addon's Rust sources say what each call does. */
export interface NativePty {
  /** The name of the other end, `/dev/pts/N`. */
  readonly path: string
  poll(): number
  /** How many bytes were read, or a negative errno. */
  read(buffer: Uint8Array): number
  /** How many bytes were taken, or a negative errno. */
  write(data: Uint8Array): number
  /** Calls back while there is something to read, or the other end is closed. */
  watch(onReady: () => void): void
  unwatch(): void
  close(): void
}

interface PtyModule {
  Pty: new () => NativePty
}

/**
 * Opens a pseudo-terminal that passes bytes as they are.
 * @throws VmmError E_NO_ADDON, or an error with the name of an errno when the host has no more of them
 */
export function openPty(): NativePty {
  const { Pty } = addon<PtyModule>()
  return new Pty()
}
