import { assignAliases } from '../aliases.ts'
import { findUnknown } from '../unknown.ts'
import { defaultEmulator } from '../options.ts'
import type { DomainDefinition } from '../generated/model.ts'
import { bootIndices } from './boot.ts'
import { addCharacters } from './characters.ts'
import { Command, notYet } from './command.ts'
import type { ArgvOptions, DomainCommand } from './command.ts'
import { addControllers, addOthers, refuseMissing } from './devices.ts'
import { addDisks } from './disks.ts'
import { featuresOf } from './features.ts'
import { addMachine } from './machine.ts'
import { addNetwork } from './network.ts'

/**
 * The command that starts a domain: stopped (`-S`), with QMP at a socket. The same line is for our
 * `qemu-kvm` and for QEMU.
 *
 * @throws XmlError (67, CONFIG_UNSUPPORTED) for everything in the definition that would not be as
 *   it says; the message begins with `unsupported:` and its path
 */
export function domainArgv(definition: DomainDefinition, options: ArgvOptions): DomainCommand {
  const def = structuredClone(definition)
  assignAliases(def)
  const program = def.devices?.emulator ?? defaultEmulator
  const command = new Command(def, options, options.features ?? featuresOf(program), program)
  const unknown = findUnknown(def)
  if (unknown !== undefined) throw notYet(unknown.path, unknown.message)
  refuseMissing(command)
  const boot = bootIndices(def)
  addMachine(command)
  addControllers(command)
  addDisks(command, boot)
  addNetwork(command, boot)
  addCharacters(command)
  addOthers(command)
  if (options.qmpSocket !== undefined) command.add('-msg', 'timestamp=on')
  for (const { value } of def.qemuCommandline?.args ?? []) command.add(value)
  for (const { name, value = '' } of def.qemuCommandline?.env ?? [])
    command.result.env[name] = value
  return command.result
}
