import { XmlError } from '../../xml/index.ts'
import { domainArgv } from '../argv/index.ts'
import { notYet } from '../argv/command.ts'
import { qemuKvmFeatures } from '../argv/features.ts'
import type { DomainDefinition } from '../generated/model.ts'
import type { DomainOptions } from '../options.ts'
import { parseDomain } from '../parse.ts'

/**
 * Reads the arguments of a `qemu-kvm` command as options of a machine: `readCommandLine` of `qemu-vmm/command-line`.
 * It is given, as this package depends on no emulator.
 */
export type CommandReader<Options> = (args: readonly string[]) => Options

/** A domain, and the machine in this process that it describes. */
export interface DomainMachine<Options> {
  /** Of `VirtualMachine`. They may be changed, and become a definition again by {@link fromMachine}. */
  options: Options
  /** All that the domain is, with what no option says: title, metadata, limits. */
  definition: DomainDefinition
  /** The command that the options are those of, without its program. */
  args: string[]
  /** Files that are to be copied from another when they are not there: variables of firmware. */
  copies: { from: string; to: string }[]
  /** What the machine lacks although the definition has it, and no guest depends on. */
  warnings: string[]
}

/** How a domain becomes a machine. */
export interface MachineRequest extends DomainOptions {
  /** Folder of sockets of channels that name none (default: the working folder). */
  socketFolder?: string
}

/**
 * Makes options of a machine in this process of a domain's document or definition.
 *
 * ```ts
 * const machine = toMachine(xml, readCommandLine)
 * await using vm = await VirtualMachine.start(machine.options)
 * ```
 *
 * There is nobody at a monitor: what takes a daemon is refused, as is what concerns the process as a whole.
 *
 * @param domain a document, or a definition that is complete
 * @throws XmlError for a wrong document, and (67, CONFIG_UNSUPPORTED) for everything that would not be as it says; the
 *   message names the path
 */
export function toMachine<Options>(
  domain: string | DomainDefinition,
  read: CommandReader<Options>,
  request: MachineRequest = {},
): DomainMachine<Options> {
  const definition = typeof domain === 'string' ? parseDomain(domain, request) : domain
  const { socketFolder: stateDir = '.' } = request
  // Whatever runs it elsewhere, here it is a machine like those of our command.
  const devices = { ...definition.devices, emulator: 'qemu-kvm' }
  const command = domainArgv({ ...definition, devices }, { stateDir, features: qemuKvmFeatures })
  const { args, env, copies, warnings } = command
  const [variable] = Object.keys(env)
  if (variable !== undefined) {
    const path = variable === 'TZ' ? '/domain/clock/@timezone' : '/domain/qemu:commandline/qemu:env'
    throw notYet(path, `the variable ${variable} is one for all machines of a process; remove it`)
  }
  return { options: readOptions(read, args), definition, args, copies, warnings }
}

function readOptions<Options>(read: CommandReader<Options>, args: readonly string[]): Options {
  try {
    return read(args)
  } catch (error) {
    // Mostly what <qemu:commandline> says.
    if (!(error instanceof Error)) throw error
    throw new XmlError(`unsupported: ${error.message}`, {}, 'E_CONFIG_UNSUPPORTED')
  }
}
