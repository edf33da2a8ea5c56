import { execFile } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, dirname, isAbsolute, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { parseDeviceHelp } from '../domain/index.ts'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import { askCpus } from './cpu.ts'
import type { CpuFacts } from './cpu.ts'
import { probe } from './probe.ts'

/** A machine that an emulator has. */
export interface Machine {
  name: string
  /** A short name that stands for it. */
  alias?: string
}

/** A command beside this package, or in the path. @returns undefined when there is none */
export function findCommand(name: string): string | undefined {
  const places: string[] = []
  // Package managers put commands of a package's neighbours in a folder of one of those around it.
  for (let at = dirname(fileURLToPath(import.meta.url)); ; at = dirname(at)) {
    places.push(join(at, 'node_modules/.bin', name))
    if (at === dirname(at)) break
  }
  for (const folder of (process.env['PATH'] ?? '').split(delimiter)) {
    if (isAbsolute(folder)) places.push(join(folder, name))
  }
  return places.find(isExecutable)
}

export function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return true
  } catch {
    return false
  }
}

const machines = new Map<string, Promise<Machine[]>>()
const devices = new Map<string, Promise<ReadonlySet<string>>>()

/** The machines of an emulator, as it lists them. Rejects with `VirtError` when it cannot be asked. */
export function machinesOf(emulator: string): Promise<Machine[]> {
  return once(machines, emulator, askMachines)
}

/** The drivers of an emulator's devices; undefined when it cannot be asked, which its start will tell more about. */
export function devicesOf(emulator: string): Promise<ReadonlySet<string> | undefined> {
  const ask = async (): Promise<ReadonlySet<string>> =>
    parseDeviceHelp(await help(emulator, '-device'))
  return once(devices, emulator, ask).catch(() => undefined)
}

/** Asks once, unless that fails: emulators do not change while a daemon runs. */
function once<T>(
  known: Map<string, Promise<T>>,
  emulator: string,
  ask: (emulator: string) => Promise<T>,
): Promise<T> {
  const asked = known.get(emulator) ?? ask(emulator)
  known.set(emulator, asked)
  asked.catch(() => known.delete(emulator))
  return asked
}

const models = new Map<string, Promise<string[]>>()

/**
 * The processors of an emulator that are the same on every host; a name stands for the version of it that the machine
 * takes. Rejects with `VirtError`
 */
export function cpuModelsOf(emulator: string): Promise<string[]> {
  return once(models, emulator, async () => {
    const list = [...(await help(emulator, '-cpu')).matchAll(/^x86 (\S+)/gm)].map(
      ([, name]) => name!,
    )
    return list.filter((name) => !/-v\d+$/.test(name) && !['max', 'host', 'base'].includes(name))
  })
}

const cpus = new Map<string, Promise<CpuFacts>>()

/** What an emulator tells of processors, on KVM or without; undefined when it cannot be asked. */
export function cpusOf(emulator: string, type: 'kvm' | 'qemu'): Promise<CpuFacts | undefined> {
  const ask = (): Promise<CpuFacts> => probe(emulator, type, (monitor) => askCpus(monitor, type))
  return once(cpus, `${type} ${emulator}`, ask).catch(() => undefined)
}

const versions = new Map<string, Promise<bigint>>()

/** The version of QEMU that an emulator says that it is: MAJOR * 1000000 + MINOR * 1000 + MICRO. Rejects with `VirtError` */
export function versionOf(emulator: string): Promise<bigint> {
  return once(versions, emulator, async () => {
    const found = /emulator version (\d+)\.(\d+)\.(\d+)/.exec(await run(emulator, ['-version']))
    const [major, minor, micro] = (found ?? ['', '0', '0', '0']).slice(1).map(BigInt)
    return major! * 1_000_000n + minor! * 1000n + micro!
  })
}

async function run(emulator: string, args: readonly string[]): Promise<string> {
  try {
    const options = { timeout: 20_000, maxBuffer: 1 << 20 }
    return (await promisify(execFile)(emulator, args, options)).stdout
  } catch (error) {
    const text = `Failed to ask '${emulator}' what it has: ${(error as Error).message}`
    throw new VirtError(ErrorCode.OPERATION_FAILED, text, { cause: error })
  }
}

const help = (emulator: string, option: string): Promise<string> => run(emulator, [option, 'help'])

async function askMachines(emulator: string): Promise<Machine[]> {
  const output = await help(emulator, '-machine')
  const aliases = new Map<string, string>()
  const names: string[] = []
  for (const line of output.split('\n').slice(1)) {
    const name = /^\S+/.exec(line)?.[0]
    if (name === undefined) continue
    const target = /\(alias of (\S+)\)/.exec(line)?.[1]
    if (target === undefined) names.push(name)
    else aliases.set(target, name)
  }
  return names.map((name) => {
    const alias = aliases.get(name)
    return alias === undefined ? { name } : { name, alias }
  })
}
