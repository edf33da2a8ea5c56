import { READ_ONLY_MODES } from '../../machine/removable-media.ts'
import type { DriveName, NewMedium } from '../../machine/removable-media.ts'
import type { QmpCommand } from './command.ts'
import { QmpError } from './message.ts'
import { bool, oneOf, str, struct } from './types.ts'

const WHICH = { 'device?': str, 'id?': str } as const
const FORMATS = ['raw', 'qcow2'] as const

/** Commands for media that come and go. */
export const MEDIA_COMMANDS: readonly QmpCommand[] = [
  {
    name: 'eject',
    args: struct({ ...WHICH, 'force?': bool }),
    run: ({ machine }, args) => machine.manage('eject', nameOf(args), args['force'] === true),
  },
  {
    name: 'blockdev-open-tray',
    args: struct({ ...WHICH, 'force?': bool }),
    run: ({ machine }, args) => machine.manage('openTray', nameOf(args), args['force'] === true),
  },
  {
    name: 'blockdev-close-tray',
    args: struct(WHICH),
    run: ({ machine }, args) => machine.manage('closeTray', nameOf(args)),
  },
  {
    name: 'blockdev-insert-medium',
    args: struct({ id: str, 'node-name': str }),
    run: ({ machine }, args) =>
      machine.manage('insertMedium', nameOf(args), args['node-name'] as string),
  },
  {
    name: 'blockdev-remove-medium',
    args: struct({ id: str }),
    run: ({ machine }, args) => machine.manage('removeMedium', nameOf(args)),
  },
  {
    name: 'blockdev-change-medium',
    args: struct({
      ...WHICH,
      filename: str,
      'format?': str,
      'force?': bool,
      'read-only-mode?': oneOf(READ_ONLY_MODES),
    }),
    run: ({ machine }, args) =>
      machine.manage(
        'changeMedium',
        nameOf(args),
        newMedium({
          file: args['filename'] as string,
          format: args['format'] as string | undefined,
          readOnlyMode: args['read-only-mode'] as NewMedium['readOnlyMode'] | undefined,
          force: args['force'] === true,
        }),
      ),
  },
]

/** Fills in what is not given. Throws `QmpError` for a format that there is none of. */
export function newMedium({
  file,
  format,
  readOnlyMode = 'retain',
  force,
}: {
  file: string
  format: string | undefined
  readOnlyMode: NewMedium['readOnlyMode'] | undefined
  force: boolean
}): NewMedium {
  const known = FORMATS.find((name) => name === format)
  if (format !== undefined && known === undefined) throw new QmpError(`Unknown driver '${format}'`)
  return { file, readOnlyMode, force, ...(known === undefined ? {} : { format: known }) }
}

function nameOf({ device, id }: Readonly<Record<string, unknown>>): DriveName {
  return { device: device as string | undefined, id: id as string | undefined }
}
