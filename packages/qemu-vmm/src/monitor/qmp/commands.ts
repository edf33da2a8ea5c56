import { readDevice } from '../../cli/options/device.ts'
import { object } from '../../cli/options/object.ts'
import { formatKeyval } from '../../cli/keyval.ts'
import { defaultSettings } from '../../cli/settings.ts'
import type { QmpCommand } from './command.ts'
import { QMP_DISPLAY_COMMANDS } from './display-commands.ts'
import { QmpError } from './message.ts'
import { QUERIES } from './queries.ts'

/** Every command but `qmp_capabilities` and `quit`, which are the session's own. */
export const QMP_COMMANDS: readonly QmpCommand[] = [
  ...QUERIES,
  {
    name: 'query-commands',
    args: {},
    run: () => [...QMP_COMMANDS.map(({ name }) => ({ name })), ...SESSION_COMMANDS],
  },
  { name: 'stop', args: {}, run: ({ machine }) => machine.pause() },
  { name: 'cont', args: {}, run: ({ machine }) => machine.resume() },
  { name: 'system_reset', args: {}, run: ({ machine }) => machine.reset() },
  { name: 'system_powerdown', args: {}, run: ({ machine }) => machine.powerdown() },
  {
    name: 'device_add',
    run: async ({ machine }, args) => {
      const read = readDevice(JSON.stringify(args), [])
      if (typeof read === 'string') throw new QmpError("Parameter 'help' is unexpected")
      await machine.addDevice(read)
    },
  },
  {
    name: 'device_del',
    args: { id: { type: 'string' } },
    run: ({ machine }, { id }) => machine.removeDevice(id as string),
  },
  { name: 'blockdev-add', run: ({ nodes }, args) => nodes.add(args) },
  {
    name: 'blockdev-del',
    args: { 'node-name': { type: 'string' } },
    run: ({ nodes }, args) => nodes.remove(args['node-name'] as string),
  },
  {
    name: 'object-add',
    run: async ({ machine }, args) => {
      const settings = defaultSettings()
      const entries = Object.entries(args).map(([key, value]) => ({
        key,
        value: wordOf(key, value),
      }))
      if (args['qom-type'] === undefined) throw new QmpError("Parameter 'qom-type' is missing")
      const text = formatKeyval(entries)
      object.apply(settings, text, text)
      for (const config of settings.objects) await machine.addObject(config)
    },
  },
  {
    name: 'object-del',
    args: { id: { type: 'string' } },
    run: ({ machine }, { id }) => machine.removeObject(id as string),
  },
  ...QMP_DISPLAY_COMMANDS,
  {
    name: 'human-monitor-command',
    args: { 'command-line': { type: 'string' } },
    run: async ({ human }, args) =>
      (await human(args['command-line'] as string)).replaceAll('\n', '\r\n'),
  },
]

/** What the session does by itself. */
export const SESSION_COMMANDS: readonly { name: string }[] = [
  { name: 'qmp_capabilities' },
  { name: 'quit' },
]

function wordOf(key: string, value: unknown): string {
  if (typeof value === 'boolean') return value ? 'on' : 'off'
  if (typeof value === 'string' || typeof value === 'number') return String(value)
  throw new QmpError(`Invalid parameter type for '${key}', expected: string`)
}
