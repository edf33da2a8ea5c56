import { constants, copyFileSync, existsSync, renameSync, rmSync } from 'node:fs'
import { ErrorCode, VirtError } from '../rpc/index.ts'

/** Gives firmware variables of its own to a domain that has none, or is to begin anew with them. @throws VirtError */
export function copyOnce({ from, to }: { from: string; to: string }, anew: boolean = false): void {
  if (!anew && existsSync(to)) return
  try {
    // Whole or not at all, as it counts as there from then on.
    const temporary = `${to}.new`
    rmSync(temporary, { force: true })
    copyFileSync(from, temporary, constants.COPYFILE_EXCL)
    renameSync(temporary, to)
  } catch (error) {
    const text = `cannot copy '${from}' to '${to}': ${(error as Error).message}`
    throw new VirtError(ErrorCode.SYSTEM_ERROR, text, { cause: error })
  }
}
