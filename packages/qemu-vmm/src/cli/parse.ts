import { CliError } from './cli-error.ts'
import { ABSENT_OPTIONS, INSTEAD } from './qemu-options.ts'
import { addDefaultDrives, addDefaultNetwork } from './default-devices.ts'
import { OPTIONS } from './registry.ts'
import { defaultSettings } from './settings.ts'
import type { Settings } from './settings.ts'
import { hint, nearest } from './suggest.ts'

/** What a command line asks for: a machine, or a text. */
export type ParsedCommand = { kind: 'run'; settings: Settings } | { kind: 'print'; text: string }

/**
 * Reads the arguments of the command.
 *
 * @param argv the arguments, without the program
 * @throws CliError for the first thing that is wrong
 */
export function parseCommand(argv: readonly string[]): ParsedCommand {
  const settings = defaultSettings()
  peekAll(argv, settings)
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] ?? ''
    if (isImage(word)) {
      applyOption(() => OPTIONS.get('hda')!.apply(settings, word, word), word)
      continue
    }
    const name = optionName(word)
    const option = OPTIONS.get(name)
    if (option === undefined) throw unknownOption(word, name)
    let value = ''
    if (option.argument !== undefined) {
      const next = argv[++i]
      if (next === undefined) throw new CliError('requires an argument', word)
      value = next
    }
    const at = option.argument === undefined ? word : `${word} ${value}`
    const text = applyOption(() => option.apply(settings, value, at), at)
    if (text !== undefined) return { kind: 'print', text }
  }
  checkTogether(settings)
  addDefaultNetwork(settings)
  addDefaultDrives(settings)
  return { kind: 'run', settings }
}

/** Shows options what the meaning of others depends on, wherever it is. What is wrong is found later. */
function peekAll(argv: readonly string[], settings: Settings): void {
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i] ?? ''
    if (isImage(word)) continue
    const option = OPTIONS.get(word.replace(/^--?/, ''))
    if (option === undefined) return
    if (option.argument === undefined) continue
    option.peek?.(settings, argv[++i] ?? '')
  }
}

/** What is no option is the first disk. */
const isImage = (word: string): boolean => word !== '' && !word.startsWith('-')

function optionName(word: string): string {
  if (/^--?[^-]/s.test(word)) return word.slice(word[1] === '-' ? 2 : 1)
  throw new CliError('invalid option', word)
}

function unknownOption(word: string, name: string): CliError {
  if (ABSENT_OPTIONS.has(name)) {
    return new CliError(INSTEAD.get(name) ?? "this option of QEMU's is not supported yet", word)
  }
  const equals = name.indexOf('=')
  const before = name.slice(0, Math.max(0, equals))
  if (OPTIONS.get(before)?.argument !== undefined) {
    return new CliError(
      `invalid option (did you mean '-${before} ${name.slice(equals + 1)}'?)`,
      word,
    )
  }
  const names = [...OPTIONS.keys()]
  const near = nearest(name, names)
  return new CliError(
    near === undefined
      ? "invalid option ('-help' lists the valid ones)"
      : `invalid option${hint(name, names, '-')}`,
    word,
  )
}

/** Errors about an argument begin with the option and the argument as typed. */
function applyOption<T>(apply: () => T, at: string): T {
  try {
    return apply()
  } catch (error) {
    if (error instanceof CliError) throw new CliError(error.message, at)
    throw error
  }
}

/** Options that make no sense without, or beside, another. */
function checkTogether(settings: Settings): void {
  if (settings.memoryBackend !== undefined) {
    const other = settings.memPath === undefined ? '-mem-prealloc' : '-mem-path'
    if (settings.memPath !== undefined || settings.memPrealloc) {
      throw new CliError(`'${other}' can't be used together with '-machine memory-backend'`)
    }
  }
  if (settings.machine === 'none') checkEmpty(settings)
  if (settings.daemonize && settings.nographic && wantsTerminal(settings)) {
    throw new CliError('-nographic cannot be used with -daemonize')
  }
  if (settings.display === 'curses') {
    const other = settings.nographic ? '-nographic' : '-daemonize'
    if (settings.nographic || settings.daemonize) {
      throw new CliError(`'-display curses' cannot be used with ${other}: both want the terminal`)
    }
  }
  if (settings.kernel === undefined) {
    if (settings.append !== undefined)
      throw new CliError('-append only allowed with -kernel option')
    if (settings.initrd !== undefined)
      throw new CliError('-initrd only allowed with -kernel option')
  }
}

/** Whether a default device would be on the terminal of -nographic. */
function wantsTerminal({ defaultDevices, serials, parallels, monitors }: Settings): boolean {
  return defaultDevices && (serials.length === 0 || parallels.length === 0 || monitors.length === 0)
}

/** The machine `none` has nothing that could use these. */
function checkEmpty(settings: Settings): void {
  const given: Readonly<Record<string, boolean>> = {
    '-m': settings.memoryBytes !== undefined,
    '-smp': settings.smp.cpus !== 1,
    '-device': settings.devices.length > 0,
    '-drive': settings.drives.length > 0 || settings.fileNodes.size > 0,
    '-kernel': settings.kernel !== undefined,
    '-bios': settings.bios !== undefined,
    '-serial': settings.serials.length > 0,
    '-parallel': settings.parallels.length > 0,
    '-object': settings.objects.length > 0,
    '-fw_cfg': settings.fwCfg.length > 0,
    '-display curses': settings.display === 'curses',
  }
  const [option] = Object.entries(given).find(([, isGiven]) => isGiven) ?? []
  if (option === undefined) return
  throw new CliError(`machine 'none' has nothing for ${option}; choose 'pc' or 'q35'`)
}
