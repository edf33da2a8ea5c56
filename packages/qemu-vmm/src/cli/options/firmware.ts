import { FIRMWARE_FOLDERS } from '../../firmware/find.ts'
import type { BootOptions } from '../../machine/boot-options.ts'
import { checkBootOptions } from '../../machine/boot-options.ts'
import { VmmError } from '../../errors.ts'
import { CliError } from '../cli-error.ts'
import { parseBool } from '../keyval.ts'
import { isHelp, keyvalOption } from '../option.ts'
import type { OptionGroup } from '../option.ts'
import { acpitable } from './acpitable.ts'
import { smbios } from './smbios.ts'

export const firmware: OptionGroup = {
  title: 'Firmware, its tables, and what it boots',
  page: 'cli-firmware.md',
  options: [
    {
      name: 'bios',
      argument: 'file',
      help: [
        "run this BIOS instead of SeaBIOS's, bios-256k.bin; a -kernel is started by it then, else at once",
      ],
      apply(settings, value) {
        settings.bios = value
      },
    },
    keyvalOption({
      name: 'option-rom',
      argument: '[romfile=]file[,bootindex=n]',
      implied: 'romfile',
      repeatable: true,
      help: ['a ROM that a BIOS runs, beside those of devices'],
      keys: [
        { name: 'romfile', value: 'file', help: 'the ROM, by name or path' },
        { name: 'bootindex', value: 'n', help: 'its place in the boot order' },
      ],
      take(settings, values) {
        const file = values.get('romfile')
        if (file === undefined || file === '')
          throw new CliError('Option ROM file is not specified')
        const index = values.get('bootindex')
        const bootIndex = index === undefined ? undefined : integer('bootindex', index)
        if (bootIndex === undefined || bootIndex < 0) settings.optionRoms.push({ file })
        else settings.optionRoms.push({ file, bootIndex })
      },
    }),
    {
      name: 'L',
      argument: 'path',
      repeatable: true,
      help: ['look for firmware in this folder first (-L help lists where it looks)'],
      apply(settings, value) {
        if (isHelp(value)) return [...settings.firmwareFolders, ...FIRMWARE_FOLDERS].join('\n')
        settings.firmwareFolders.push(value)
        return undefined
      },
    },
    keyvalOption({
      name: 'boot',
      argument: '[order=]drives[,once=drives][,menu=on|off][,key=value...]',
      implied: 'order',
      help: [
        'what the BIOS boots: a, b (floppy), c (hard disk), d (CD), n (network), in this order;',
        "'bootindex' of a -device comes before",
      ],
      keys: [
        { name: 'order', value: 'drives', help: 'at most three kinds of drives (default: cad)' },
        { name: 'once', value: 'drives', help: 'the order until the first reset' },
        { name: 'menu', value: 'on|off', help: 'a key opens a menu' },
        { name: 'splash', value: 'file', help: 'picture that the BIOS shows, JPEG or BMP' },
        { name: 'splash-time', value: 'ms', help: 'how long it waits for the key' },
        { name: 'reboot-timeout', value: 'ms', help: 'reset when nothing boots; -1 for never' },
        { name: 'strict', value: 'on|off', help: "only devices with a 'bootindex'" },
      ],
      take(settings, values) {
        Object.assign(settings.boot, checked(options(values)))
      },
    }),
    smbios,
    acpitable,
  ],
}

function options(values: ReadonlyMap<string, string>): BootOptions {
  const result: BootOptions = {}
  const order = values.get('order')
  if (order !== undefined) result.order = order
  const once = values.get('once')
  if (once !== undefined) result.once = once
  const menu = values.get('menu')
  if (menu !== undefined) result.menu = parseBool(menu, 'menu')
  const splash = values.get('splash')
  if (splash !== undefined) result.splash = splash
  const splashTime = values.get('splash-time')
  if (splashTime !== undefined) result.splashTime = integer('splash-time', splashTime)
  const timeout = values.get('reboot-timeout')
  if (timeout !== undefined) result.rebootTimeout = integer('reboot-timeout', timeout)
  const strict = values.get('strict')
  if (strict !== undefined) result.strict = parseBool(strict, 'strict')
  return result
}

function integer(name: string, value: string): number {
  if (/^-?\d{1,9}$/.test(value)) return Number(value)
  throw new CliError(`Parameter '${name}' expects a number, not '${value}'`)
}

function checked(boot: BootOptions): BootOptions {
  try {
    checkBootOptions(boot)
  } catch (error) {
    throw error instanceof VmmError ? new CliError(error.message) : error
  }
  return boot
}
