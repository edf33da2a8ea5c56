import { readFileSync } from 'node:fs'

import { CliError } from '../cli-error.ts'
import type { OptionSpec } from '../option.ts'
import type { Settings } from '../settings.ts'
import { systemMessage } from '../system-error.ts'
import { hint } from '../suggest.ts'
import { takeGlobal } from './global.ts'

/** Options that QEMU's configuration files call otherwise than the command line. */
const RENAMED: Readonly<Record<string, string>> = {
  memory: 'm',
  'smp-opts': 'smp',
  'boot-opts': 'boot',
}
/** The options that may be sections; which have an id is theirs to say. */
const SECTIONS = [
  'accel',
  'action',
  'blockdev',
  'boot-opts',
  'chardev',
  'device',
  'drive',
  'fw_cfg',
  'global',
  'machine',
  'memory',
  'mon',
  'name',
  'object',
  'smp-opts',
] as const
/** Keys that the command line leaves out, and has only without. */
const BARE_FIRST: Readonly<Record<string, string>> = { object: 'qom-type' }

interface Section {
  group: string
  id: string | undefined
  line: number
  entries: [key: string, value: string][]
}

/**
 * `-readconfig`: options from a file, as if they stood in its place.
 *
 * @param options finds an option by its name on the command line
 */
export function readconfig(options: (name: string) => OptionSpec | undefined): OptionSpec {
  return {
    name: 'readconfig',
    argument: 'file',
    repeatable: true,
    help: [
      'options from a file: sections [option "id"] or [option] with lines key = "value", for',
      `${SECTIONS.join(', ')}`,
    ],
    // The kind of machine decides about options before the file, too. What is wrong is found later.
    peek(settings, file) {
      for (const section of peekedConfig(file)) {
        const option = options(RENAMED[section.group] ?? section.group)
        option?.peek?.(settings, argumentOf(section))
      }
    },
    apply(settings, file) {
      for (const section of parseConfig(readText(file), file)) {
        const at = `${file}:${section.line}`
        try {
          applySection(settings, section, options)
        } catch (error) {
          if (error instanceof CliError) throw new CliError(`${at}: ${error.message}`)
          throw error
        }
      }
    },
  }
}

/** @throws CliError that names the line, as QEMU does */
export function parseConfig(text: string, file: string): Section[] {
  const sections: Section[] = []
  for (const [index, raw] of text.split('\n').entries()) {
    const line = raw.trim()
    if (line === '' || line.startsWith('#')) continue
    const head = /^\[\s*([\w-]+)(?:\s+"([^"]*)")?\s*\]$/.exec(line)
    if (head?.[1] !== undefined) {
      sections.push({ group: head[1], id: head[2], line: index + 1, entries: [] })
      continue
    }
    const entry = /^([\w.-]+)\s*=\s*"([^"]*)"$/.exec(line)
    if (entry === null) throw new CliError(`${file}:${index + 1}: parse error`)
    const section = sections.at(-1)
    if (section === undefined) throw new CliError(`${file}:${index + 1}: no group defined`)
    section.entries.push([entry[1]!, entry[2]!])
  }
  return sections
}

function applySection(
  settings: Settings,
  section: Section,
  options: (name: string) => OptionSpec | undefined,
): void {
  const { group, entries } = section
  if (!(SECTIONS as readonly string[]).includes(group)) {
    throw new CliError(`There is no option group '${group}'${hint(group, SECTIONS)}`)
  }
  if (group === 'global') return applyGlobal(settings, entries)
  const option = options(RENAMED[group] ?? group)
  if (option === undefined) throw new CliError(`There is no option group '${group}'`)
  const argument = argumentOf(section)
  const printed = option.apply(settings, argument, `-${option.name} ${argument}`)
  // A list of what there is makes no sense in the middle of a file.
  if (printed !== undefined) throw new CliError('help belongs on the command line')
}

/** The section as the command line has it. */
function argumentOf({ group, id, entries }: Section): string {
  const all = id === undefined ? entries : [['id', id] as const, ...entries]
  const first = all.find(([key]) => key === BARE_FIRST[group])
  const rest = all.filter((entry) => entry !== first)
  const words = rest.map(([key, value]) => `${key}=${escaped(value)}`)
  return [...(first === undefined ? [] : [escaped(first[1])]), ...words].join(',')
}

function peekedConfig(file: string): Section[] {
  try {
    return parseConfig(readText(file), file)
  } catch {
    return []
  }
}

function applyGlobal(settings: Settings, entries: Section['entries']): void {
  const values = new Map(entries)
  const [driver, property, value] = ['driver', 'property', 'value'].map((key) => {
    const text = values.get(key)
    if (text === undefined) throw new CliError(`Parameter '${key}' is missing`)
    return text
  })
  takeGlobal(settings, driver!, property!, value!)
}

function escaped(value: string): string {
  return value.replaceAll(',', ',,')
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8')
  } catch (error) {
    throw new CliError(`Cannot read config file ${file}: ${systemMessage(error)}`)
  }
}
