import { ErrorCode, VirtError } from '../rpc/index.ts'

/** @throws VirtError for flags other than the known ones: to ignore one is to do something else than was asked for */
export function checkFlags(flags: number, known: number, procedure: string): void {
  const unknown = (flags & ~known) >>> 0
  if (unknown === 0) return
  throw new VirtError(
    ErrorCode.INVALID_ARG,
    `invalid argument: unsupported flags (0x${unknown.toString(16)}) in function ${procedure}`,
  )
}
