import { helpText } from './help.ts'
import type { OptionGroup, OptionSpec } from './option.ts'
import { boot } from './options/boot.ts'
import { character } from './options/character.ts'
import { cpu } from './options/cpu.ts'
import { fixedOptions } from './options/defaults.ts'
import { firmware } from './options/firmware.ts'
import { identity } from './options/identity.ts'
import { information } from './options/information.ts'
import { lifecycle } from './options/lifecycle.ts'
import { machine } from './options/machine.ts'
import { memory } from './options/memory.ts'
import { network } from './options/network.ts'
import { processOptions } from './options/process.ts'
import { readconfig } from './options/readconfig.ts'
import { storage } from './options/storage.ts'

/** Every option of the command, in the order of `-help` and of the documentation. */
export const OPTION_GROUPS: readonly OptionGroup[] = [
  information(() => helpText(OPTION_GROUPS)),
  machine,
  cpu,
  memory,
  firmware,
  boot,
  storage,
  network,
  character,
  identity,
  lifecycle,
  processOptions,
  fixedOptions,
  { title: 'Files of options', options: [readconfig((name) => OPTIONS.get(name))] },
]

/** Options by each of their names, without dashes. */
export const OPTIONS: ReadonlyMap<string, OptionSpec> = new Map(
  OPTION_GROUPS.flatMap((group) => group.options).flatMap((option) =>
    [option.name, ...(option.aliases ?? [])].map((name) => [name, option] as const),
  ),
)
