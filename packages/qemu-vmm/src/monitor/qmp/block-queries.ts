import { blockDevices } from './block-devices.ts'
import type { BlockDevice } from './block-devices.ts'
import type { BlockNode } from './block-nodes.ts'
import type { QmpCommand } from './command.ts'
import { LIMIT_MEMBERS, limitMembers } from './block-limits.ts'
import { bool, int, listOf, oneOf, str, struct } from './types.ts'

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
  ...LIMIT_MEMBERS,
})

const DEVICE = struct({
  device: str,
  'qdev?': str,
  type: str,
  removable: bool,
  locked: bool,
  'tray_open?': bool,
  'inserted?': NODE,
  'io-status?': oneOf(['ok', 'failed']),
})

/** Commands that tell of disk images. */
export const BLOCK_QUERIES: readonly QmpCommand[] = [
  {
    name: 'query-block',
    args: struct({}),
    returns: listOf(DEVICE),
    run: async ({ machine, nodes }) => {
      const known = await nodes.list()
      return (await blockDevices(machine)).map((each) =>
        device(
          each,
          known.find(({ drive }) => drive.id === each.medium?.id),
        ),
      )
    },
  },
  {
    name: 'query-named-block-nodes',
    args: struct({ 'flat?': bool }),
    returns: listOf(NODE),
    run: async ({ nodes }) => (await nodes.list()).map(describeNode),
  },
]

function device({ backend, medium }: BlockDevice, node: BlockNode | undefined): object {
  const { name, qdev, isLocked, isRemovable, isTrayOpen, hasIoStatus } = backend
  return {
    ...(hasIoStatus ? { 'io-status': medium?.isWaiting === true ? 'failed' : 'ok' } : {}),
    device: name,
    locked: isLocked,
    removable: isRemovable,
    ...(node === undefined ? {} : { inserted: describeNode(node) }),
    ...(qdev === undefined ? {} : { qdev }),
    ...(isTrayOpen === undefined ? {} : { tray_open: isTrayOpen }),
    type: 'unknown',
  }
}

function describeNode({ drive, driver }: BlockNode): object {
  const { id, file, readOnly, sizeBytes, backingDepth = 0, cache = 'writeback', throttle } = drive
  return {
    ...limitMembers(throttle),
    'node-name': id,
    file,
    drv: driver,
    ro: readOnly,
    encrypted: false,
    detect_zeroes: 'off',
    backing_file_depth: backingDepth,
    write_threshold: 0,
    image: { filename: file, format: driver, 'virtual-size': sizeBytes },
    cache: {
      writeback: cache !== 'writethrough' && cache !== 'directsync',
      direct: cache === 'none' || cache === 'directsync',
      'no-flush': cache === 'unsafe',
    },
  }
}
