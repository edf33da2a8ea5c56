import { execFile } from 'node:child_process'
import { accessSync, constants } from 'node:fs'
import { delimiter, dirname, isAbsolute, join } from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { ErrorCode, VirtError } from '../rpc/index.ts'

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

/** The machines of an emulator, as it lists them. Rejects with `VirtError` when it cannot be asked. */
export function machinesOf(emulator: string): Promise<Machine[]> {
  const known = machines.get(emulator)
  if (known !== undefined) return known
  const asked = askMachines(emulator)
  machines.set(emulator, asked)
  asked.catch(() => machines.delete(emulator))
  return asked
}

async function askMachines(emulator: string): Promise<Machine[]> {
  let output: string
  try {
    const options = { timeout: 20_000, maxBuffer: 1 << 20 }
    output = (await promisify(execFile)(emulator, ['-machine', 'help'], options)).stdout
  } catch (error) {
    const text = `Failed to list the machines of '${emulator}': ${(error as Error).message}`
    throw new VirtError(ErrorCode.OPERATION_FAILED, text, { cause: error })
  }
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
