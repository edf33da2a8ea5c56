import { writeFileSync } from 'node:fs'

import { CliError } from './cli-error.ts'
import { systemMessage } from './system-error.ts'

/** Headers of ELF files alone, of the kinds of memory in core(5). */
const NO_MEMORY = '0x10'

/** Core dumps of this process have no memory of the guest from now on. Throws `CliError` where they would. */
export function leaveMemoryOut(): void {
  try {
    writeFileSync('/proc/self/coredump_filter', NO_MEMORY)
  } catch (error) {
    throw new CliError(`cannot leave guest memory out of core dumps: ${systemMessage(error)}`)
  }
}
