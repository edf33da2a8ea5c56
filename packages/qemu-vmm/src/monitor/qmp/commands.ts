import { readDevice } from '../../cli/options/device.ts'
import { object } from '../../cli/options/object.ts'
import { formatKeyval } from '../../cli/keyval.ts'
import { defaultSettings } from '../../cli/settings.ts'
import { BALLOON_COMMANDS } from './balloon-commands.ts'
import { BLOCK_COMMANDS } from './block-commands.ts'
import { CHARDEV_COMMANDS } from './chardev-commands.ts'
import { BLOCK_LIMITS } from './block-limits.ts'
import type { QmpCommand } from './command.ts'
import { CPU_QUERIES } from './cpu-queries.ts'
import { QMP_DISPLAY_COMMANDS } from './display-commands.ts'
import { QMP_EVENTS } from './events.ts'
import { MACHINE_QUERIES } from './machine-queries.ts'
import { MEDIA_COMMANDS } from './media-commands.ts'
import { NETWORK_COMMANDS } from './network-commands.ts'
import { OPTION_QUERIES } from './option-queries.ts'
import { OBJECT_ARGUMENTS } from './object-types.ts'
import { QOM_COMMANDS } from './qom.ts'
import { QUERIES } from './queries.ts'
import { schemaOf } from './schema.ts'
import { listOf, oneOf, str, struct } from './types.ts'
import type { QmpObject } from './types.ts'

const NOTHING = struct({})
const NAMES = listOf(struct({ name: str }))

/** Of `device_add`: what else there is depends on the driver. */
const DEVICE_ARGUMENTS: QmpObject = {
  ...struct({ driver: str, 'bus?': str, 'id?': str }),
  open: true,
}

/** Carried out by the session. */
function bySession(): never {
  throw new Error('the session carries this out by itself')
}

/** Every command, with what it takes and answers. */
export const QMP_COMMANDS: readonly QmpCommand[] = [
  // No capability is offered, so that none can be enabled.
  { name: 'qmp_capabilities', args: struct({ 'enable?': listOf(oneOf([])) }), run: bySession },
  { name: 'quit', args: NOTHING, run: bySession },
  ...QUERIES,
  ...MACHINE_QUERIES,
  ...CPU_QUERIES,
  ...QOM_COMMANDS,
  ...OPTION_QUERIES,
  {
    name: 'query-commands',
    args: NOTHING,
    returns: NAMES,
    run: () => QMP_COMMANDS.map(({ name }) => ({ name })),
  },
  {
    name: 'query-qmp-schema',
    args: NOTHING,
    // QEMU tells the type of this one as well; what is in it depends on the kind of entity.
    returns: listOf({ ...struct({ name: str, 'meta-type': str }), open: true }),
    run: () => (schema ??= schemaOf(QMP_COMMANDS, QMP_EVENTS)),
  },
  { name: 'stop', args: NOTHING, run: ({ machine }) => machine.pause() },
  { name: 'cont', args: NOTHING, run: ({ machine }) => machine.resume() },
  { name: 'system_reset', args: NOTHING, run: ({ machine }) => machine.reset() },
  { name: 'system_wakeup', args: NOTHING, run: ({ machine }) => machine.manage('wakeUp') },
  { name: 'system_powerdown', args: NOTHING, run: ({ machine }) => machine.powerdown() },
  {
    name: 'device_add',
    args: DEVICE_ARGUMENTS,
    run: async ({ machine }, args) => {
      const read = readDevice(JSON.stringify(args), [])
      if (typeof read === 'string') throw new Error("Parameter 'help' is unexpected")
      await machine.addDevice(read)
    },
  },
  {
    name: 'device_del',
    args: struct({ id: str }),
    run: ({ machine }, { id }) => machine.removeDevice(id as string),
  },
  ...BALLOON_COMMANDS,
  ...BLOCK_COMMANDS,
  ...MEDIA_COMMANDS,
  ...CHARDEV_COMMANDS,
  BLOCK_LIMITS,
  ...NETWORK_COMMANDS,
  {
    name: 'object-add',
    args: OBJECT_ARGUMENTS,
    run: async ({ machine }, args) => {
      const settings = defaultSettings()
      const entries = Object.entries(args).map(([key, value]) => ({ key, value: wordOf(value) }))
      const text = formatKeyval(entries)
      object.apply(settings, text, text)
      for (const config of settings.objects) await machine.addObject(config)
    },
  },
  {
    name: 'object-del',
    args: struct({ id: str }),
    run: ({ machine }, { id }) => machine.removeObject(id as string),
  },
  ...QMP_DISPLAY_COMMANDS,
  {
    name: 'human-monitor-command',
    args: struct({ 'command-line': str }),
    returns: str,
    run: async ({ human }, args) =>
      (await human(args['command-line'] as string)).replaceAll('\n', '\r\n'),
  },
]

/** It does not change while the program runs. */
let schema: object[] | undefined

/** Values have been checked: they are strings, numbers and booleans. */
function wordOf(value: unknown): string {
  if (typeof value === 'boolean') return value ? 'on' : 'off'
  return String(value)
}
