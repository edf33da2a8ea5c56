import { AIO_MODES } from '../../machine/drive-config.ts'
import { blockDevices } from './block-devices.ts'
import type { QmpCommand } from './command.ts'
import { QmpError } from './message.ts'
import { bool, int, membersOf, oneOf, str, struct } from './types.ts'
import type { QmpMembers, QmpObject, QmpType } from './types.ts'

/** Members of all nodes. */
const NODE: Readonly<Record<string, QmpType>> = {
  'node-name?': str,
  'read-only?': bool,
  'discard?': oneOf(['ignore', 'unmap']),
  'cache?': struct({ 'direct?': bool, 'no-flush?': bool }),
}

const FILE: QmpMembers = membersOf({
  filename: str,
  'locking?': oneOf(['on', 'off', 'auto']),
  'aio?': oneOf([...AIO_MODES]),
})

/** A file node that is described where it is used; it has no name. */
const FILE_IN_PLACE: QmpObject = {
  meta: 'object',
  members: membersOf({ driver: oneOf(['file']), 'read-only?': bool }),
  tag: 'driver',
  variants: { file: FILE },
}

const FORMAT: QmpMembers = membersOf({
  file: { meta: 'alternate', name: 'BlockdevRef', of: [str, FILE_IN_PLACE] },
})

/** Commands for nodes of the block graph. */
export const BLOCK_COMMANDS: readonly QmpCommand[] = [
  {
    name: 'blockdev-add',
    args: {
      meta: 'object',
      members: membersOf({ driver: oneOf(['file', 'qcow2', 'raw']), ...NODE }),
      tag: 'driver',
      variants: { file: FILE, qcow2: FORMAT, raw: FORMAT },
    },
    run: ({ nodes }, args) => nodes.add(args),
  },
  {
    name: 'blockdev-del',
    args: struct({ 'node-name': str }),
    run: ({ nodes }, args) => nodes.remove(args['node-name'] as string),
  },
  {
    name: 'block_resize',
    args: struct({ 'device?': str, 'node-name?': str, size: int }),
    run: async ({ machine }, { device = '', 'node-name': node = '', size }) => {
      const devices = await blockDevices(machine)
      const nodes = await machine.drives()
      const found =
        device === ''
          ? nodes.find(({ id }) => id === node)
          : devices.find(({ backend }) => backend.name === device)?.medium
      if (found === undefined) {
        throw new QmpError(`Cannot find device='${String(device)}' nor node-name='${String(node)}'`)
      }
      if ((size as number) < 0) throw new QmpError("Parameter 'size' expects a >0 size")
      await machine.manage('resizeDrive', found.id, size as number)
    },
  },
]
