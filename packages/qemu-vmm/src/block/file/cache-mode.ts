import { hint } from '../../cli/suggest.ts'
import { BlockError } from '../errors.ts'

/** What QEMU's `cache=` means, in its three parts (`cache.direct`, `cache.no-flush`, and the write cache). */
export interface CacheMode {
  /** Around the host's page cache (`O_DIRECT`). */
  readonly direct: boolean
  /** Flushes of the guest go no further than the host's page cache. */
  readonly noFlush: boolean
  /** The guest sees a write cache and must flush; otherwise each write is stable when it completes. */
  readonly writeback: boolean
}

export type CacheName = 'writeback' | 'none' | 'writethrough' | 'directsync' | 'unsafe'

const MODES: Readonly<Record<CacheName, CacheMode>> = {
  writeback: { direct: false, noFlush: false, writeback: true },
  none: { direct: true, noFlush: false, writeback: true },
  writethrough: { direct: false, noFlush: false, writeback: false },
  directsync: { direct: true, noFlush: false, writeback: false },
  unsafe: { direct: false, noFlush: true, writeback: true },
}

export const CACHE_NAMES: readonly CacheName[] = Object.keys(MODES) as CacheName[]

/**
 * The parts of a named mode. QEMU's short form `off` is `none`.
 * @throws BlockError E_BLOCK_OPTION for any other name
 */
export function cacheMode(name: string): CacheMode {
  const mode = Object.hasOwn(MODES, name) ? MODES[name as CacheName] : undefined
  if (mode !== undefined) return mode
  if (name === 'off') return MODES.none
  throw new BlockError(
    'E_BLOCK_OPTION',
    `invalid cache option '${name}'${hint(name, CACHE_NAMES)}`,
    { errno: 'EINVAL', fields: { cache: name } },
  )
}
