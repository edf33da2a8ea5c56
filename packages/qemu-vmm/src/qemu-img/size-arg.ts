import { CliError } from '../cli/cli-error.ts'
import { parseSize } from '../cli/size.ts'
import { UsageError } from './args.ts'

/** A size in an option, in bytes. */
export function sizeOf(text: string, name: string): number {
  try {
    return parseSize(text, 'B', name)
  } catch (error) {
    if (error instanceof CliError) throw new UsageError(`Invalid ${name}: ${error.message}`)
    throw error
  }
}
