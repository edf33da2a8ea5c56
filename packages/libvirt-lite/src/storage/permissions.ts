import { chmodSync, chownSync } from 'node:fs'
import { ErrorCode, VirtError } from '../rpc/index.ts'
import type { Permissions } from './definition.ts'

/** Of chown(2): this one stays as it is. */
const UNCHANGED = 0xffff_ffff

/** Gives a file or folder what its definition says. @throws VirtError where this daemon may not */
export function setPermissions(path: string, { mode, owner, group }: Permissions): void {
  try {
    if (owner !== undefined || group !== undefined)
      chownSync(path, owner ?? UNCHANGED, group ?? UNCHANGED)
    if (mode !== undefined) chmodSync(path, mode)
  } catch (error) {
    const text = `cannot give '${path}' the permissions of its definition: ${(error as Error).message}`
    throw new VirtError(ErrorCode.SYSTEM_ERROR, text, { cause: error })
  }
}
