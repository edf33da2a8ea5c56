/** The addon's interfaces of the host. */

import { addon } from './addon.ts'

/** What the addon exports. Its Rust sources say what each call does. */
export interface NativeTap {
  readonly name: string
  watch(onReady: () => void): void
  unwatch(): void
  setAccepts(accepts: number): void
  /** Twice the new number of used bytes of `out`, and 1 more when there is no room for the rest; or -1. */
  read(out: Uint8Array, used: number): number
  /** The offset of the first record that has to wait, or -1. */
  write(batch: Uint8Array, from: number, used: number): number
  close(): void
}

interface TapModule {
  Tap: {
    new (name: string): NativeTap
    fromFd(fd: number): NativeTap
    inBridge(bridge: string): NativeTap
    byHelper(helper: string, bridge: string): NativeTap
  }
}

/**
 * Attaches to an interface, or makes it.
 * @throws an error whose `code` is that of the host; VmmError E_NO_ADDON when the addon was not built
 */
export function openTap(name: string): NativeTap {
  return new (addon<TapModule>().Tap)(name)
}

/** Takes one that is open as `fd`. Throws as `openTap`; `EBADF` when there is none, `EPROTO` for what is none with headers. */
export function adoptTap(fd: number): NativeTap {
  return addon<TapModule>().Tap.fromFd(fd)
}

/** Makes one in a bridge. Throws as `openTap`; `ENODEV` when there is no such bridge. */
export function openTapInBridge(bridge: string): NativeTap {
  return addon<TapModule>().Tap.inBridge(bridge)
}

/** Has a program make it that has the right to. Throws as `openTap`; `EPROTO` when that program fails. */
export function openTapByHelper(helper: string, bridge: string): NativeTap {
  return addon<TapModule>().Tap.byHelper(helper, bridge)
}
