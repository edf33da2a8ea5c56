import type { DriveInfo } from '../../machine/drives.ts'
import type { QmpCommand } from './command.ts'
import { bool, int, listOf, oneOf, str, struct } from './types.ts'

/** Limits of bytes and requests per second, of which there are none. */
const NO_LIMITS = { bps: 0, bps_rd: 0, bps_wr: 0, iops: 0, iops_rd: 0, iops_wr: 0 } as const

const NODE = struct({
  'node-name': str,
  file: str,
  'drv?': str,
  ro: bool,
  encrypted: bool,
  detect_zeroes: oneOf(['off']),
  backing_file_depth: int,
  write_threshold: int,
  image: struct({ filename: str, 'format?': str, 'virtual-size': int }),
  cache: struct({ writeback: bool, direct: bool, 'no-flush': bool }),
  ...Object.fromEntries(Object.keys(NO_LIMITS).map((name) => [name, int])),
})

const DEVICE = struct({
  device: str,
  'qdev?': str,
  type: str,
  removable: bool,
  locked: bool,
  'inserted?': NODE,
  'io-status?': oneOf(['ok', 'failed']),
})

/** Commands that tell of disk images. */
export const BLOCK_QUERIES: readonly QmpCommand[] = [
  {
    name: 'query-block',
    args: struct({}),
    returns: listOf(DEVICE),
    run: async ({ machine }) =>
      (await machine.drives()).filter(isBlockDevice).map((drive) => ({
        'io-status': drive.isWaiting ? 'failed' : 'ok',
        device: drive.deleteWithDevice === true ? drive.id : '',
        locked: false,
        removable: false,
        inserted: inserted(drive),
        ...(drive.owner === undefined ? {} : { qdev: drive.owner }),
        type: 'unknown',
      })),
  },
  {
    name: 'query-named-block-nodes',
    args: struct({ 'flat?': bool }),
    returns: listOf(NODE),
    run: async ({ machine }) => (await machine.drives()).map(inserted),
  },
]

/** A node of -blockdev that no device has is no block device yet. */
export function isBlockDevice({ owner, deleteWithDevice }: DriveInfo): boolean {
  return owner !== undefined || deleteWithDevice === true
}

function inserted(drive: DriveInfo): object {
  const { id, file, format, readOnly, sizeBytes, backingDepth = 0, cache = 'writeback' } = drive
  return {
    ...NO_LIMITS,
    'node-name': id,
    file,
    drv: format,
    ro: readOnly,
    encrypted: false,
    detect_zeroes: 'off',
    backing_file_depth: backingDepth,
    write_threshold: 0,
    image: { filename: file, format, 'virtual-size': sizeBytes },
    cache: {
      writeback: cache !== 'writethrough' && cache !== 'directsync',
      direct: cache === 'none' || cache === 'directsync',
      'no-flush': cache === 'unsafe',
    },
  }
}
