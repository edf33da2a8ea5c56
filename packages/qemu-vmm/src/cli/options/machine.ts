import { CliError } from '../cli-error.ts'
import { parseBool } from '../keyval.ts'
import { choice, flagOption, isHelp, keyvalOption } from '../option.ts'
import type { OptionGroup } from '../option.ts'
import { MACHINE_KINDS, MACHINE_TYPES } from '../../machine/machine-type.ts'
import type { Accelerator, MachineChoice, Settings } from '../settings.ts'
import { global } from './global.ts'
import { rtc } from './rtc.ts'

const ACCELERATORS: readonly Accelerator[] = ['tcg', 'kvm']
const MACHINES: readonly MachineChoice[] = [...MACHINE_TYPES, 'none']
const MOST_CODE_MIB = 1024
const SMM_CHOICES = ['auto', 'off', 'on'] as const
const FLASH_UNITS = [0, 1] as const
const VIDEO_ADAPTERS = ['std', 'none'] as const

export const machine: OptionGroup = {
  title: 'Machine',
  options: [
    keyvalOption({
      name: 'machine',
      aliases: ['M'],
      argument: '[type=]name[,accel=accel1[:accel2]][,memory-backend=id][,key=value...]',
      implied: 'type',
      help: ["kind of machine ('-machine help' lists them; default: pc)"],
      keys: [
        { name: 'type', value: 'name', help: `kind of machine: ${MACHINES.join(', ')}` },
        {
          name: 'accel',
          value: 'a[:b]',
          help: 'what runs the processors, in order of preference; see -accel',
        },
        {
          name: 'memory-backend',
          value: 'id',
          help: 'the -object that guest memory is made of',
        },
        ...FLASH_UNITS.map((unit) => ({
          name: `pflash${unit}`,
          value: 'node-name',
          help: `the node that is flash chip ${unit}, instead of -drive if=pflash,unit=${unit}`,
        })),
        { name: 'usb', value: 'off', help: 'a controller for USB, which there is none of' },
        {
          name: 'dump-guest-core',
          value: 'on|off',
          help: 'off: core dumps of the process have no anonymous memory (default: as the host has it)',
        },
        { name: 'acpi', value: 'on|off', help: 'ACPI tables, and what they tell of (default: on)' },
        { name: 'pit', value: 'on|off', help: 'the timer of every PC (default: on)' },
        { name: 'hpet', value: 'on|off', help: 'the high precision event timer (default: on)' },
        {
          name: 'graphics',
          value: 'on|off',
          help: "off: firmware's screen is the first serial port (default: on, off with -nographic)",
        },
        {
          name: 'smm',
          value: 'auto|on|off',
          help: 'system management mode, which needs tcg (default: auto, where firmware is in flash)',
        },
      ],
      peek(settings, value) {
        const type =
          /^(?:type=)?([^,=]+)(?:,|$)/.exec(value)?.[1] ?? /,type=([^,]+)/.exec(value)?.[1]
        const found = MACHINES.find((name) => name === type)
        if (found !== undefined) settings.machine = found
      },
      list: () => ['Supported machines are:', ...MACHINES.map(listed)].join('\n'),
      owner: (values) => {
        const type = choice(values.get('type') ?? 'pc', MACHINES, 'unsupported machine type')
        return `${type === 'none' ? type : MACHINE_KINDS[type].name}-machine`
      },
      take(settings, values) {
        const type = values.get('type')
        if (type !== undefined)
          settings.machine = choice(type, MACHINES, 'unsupported machine type')
        const accel = values.get('accel')
        const backend = values.get('memory-backend')
        if (backend !== undefined) settings.memoryBackend = backend
        for (const unit of FLASH_UNITS) {
          const node = values.get(`pflash${unit}`)
          if (node === undefined) continue
          if (settings.flash[unit] !== undefined) {
            throw new CliError(`flash chip ${unit} is the drive '${settings.flash[unit]}' already`)
          }
          settings.flash[unit] = node
        }
        const acpi = values.get('acpi')
        if (acpi !== undefined) settings.machineOptions.acpi = parseBool(acpi, 'acpi')
        const pit = values.get('pit')
        if (pit !== undefined) settings.machineOptions.pit = parseBool(pit, 'pit')
        if (parseBool(values.get('usb') ?? 'off', 'usb')) {
          throw new CliError("there is no USB controller yet; leave out 'usb=on'")
        }
        const dump = values.get('dump-guest-core')
        if (dump !== undefined) settings.dumpGuestCore = parseBool(dump, 'dump-guest-core')
        const hpet = values.get('hpet')
        if (hpet !== undefined) settings.machineOptions.hpet = parseBool(hpet, 'hpet')
        const graphics = values.get('graphics')
        if (graphics !== undefined) {
          settings.machineOptions.graphics = parseBool(graphics, 'graphics')
        }
        const smm = choice(values.get('smm') ?? 'auto', SMM_CHOICES, 'invalid value of smm')
        if (smm !== 'auto') settings.machineOptions.smm = smm === 'on'
        if (accel !== undefined) settings.accelerators = accel.split(':').map(accelerator)
      },
    }),
    {
      name: 'vga',
      argument: 'std|none',
      help: ['video adapter: std, the standard VGA and the default, or none'],
      apply(settings, value) {
        if (isHelp(value)) return VIDEO_ADAPTERS.join('\n')
        settings.vga = choice(value, VIDEO_ADAPTERS, 'unknown vga type')
        return undefined
      },
    },
    keyvalOption({
      name: 'accel',
      argument: '[accel=]tcg|kvm[,tb-size=n]',
      implied: 'accel',
      repeatable: true,
      help: [
        "what runs the processors: 'tcg' is the software engine, 'kvm' the host's; given twice,",
        'the second is used where the first does not work (default: kvm, then tcg)',
      ],
      keys: [
        { name: 'accel', value: 'tcg|kvm', help: 'the accelerator' },
        {
          name: 'tb-size',
          value: 'n',
          help: 'tcg: MiB of translated code that each processor keeps, 1 to 1024 (default: 128)',
        },
      ],
      owner: (values) => `${accelerator(values.get('accel') ?? 'tcg')}-accel`,
      list: () => ['Accelerators supported in this program:', ...ACCELERATORS].join('\n'),
      take(settings, values) {
        const name = values.get('accel')
        if (name === undefined) throw new CliError("Parameter 'accel' is missing")
        const size = values.get('tb-size')
        if (size !== undefined) takeCodeSize(settings, accelerator(name), size)
        prefer(settings, accelerator(name))
      },
    }),
    flagOption(
      'perfmap',
      ["name translated code in /tmp/perf-PID.map, for 'perf' on the host; needs tcg"],
      (settings) => {
        settings.tcg.perfMap = true
      },
    ),
    rtc,
    global,
    flagOption('no-acpi', ["the same as '-machine acpi=off'"], (settings) => {
      settings.machineOptions.acpi = false
    }),
    flagOption('no-hpet', ["the same as '-machine hpet=off'"], (settings) => {
      settings.machineOptions.hpet = false
    }),
    flagOption('enable-kvm', ["the same as '-accel kvm'"], (settings) => prefer(settings, 'kvm')),
  ],
}

function listed(type: MachineChoice): string {
  if (type === 'none') return `${type.padEnd(20)} empty machine`
  const { name, product } = MACHINE_KINDS[type]
  const alias = type === name ? '' : ` (alias of ${name})`
  return `${type.padEnd(20)} ${product}${alias}${type === 'pc' ? ' (default)' : ''}`
}

function accelerator(name: string): Accelerator {
  return choice(name, ACCELERATORS, 'invalid accelerator')
}

function takeCodeSize(settings: Settings, name: Accelerator, size: string): void {
  if (name !== 'tcg') throw new CliError(`Property '${name}-accel.tb-size' not found`)
  const mib = /^\d{1,4}$/.test(size) ? Number(size) : 0
  if (mib < 1 || mib > MOST_CODE_MIB) {
    throw new CliError(`Parameter 'tb-size' expects MiB from 1 to ${MOST_CODE_MIB}, not '${size}'`)
  }
  settings.tcg.codeBytes = mib << 20
}

function prefer(settings: Settings, name: Accelerator): void {
  if (!settings.accelerators.includes(name)) settings.accelerators.push(name)
}
