import { getSystemErrorMap } from 'node:util'

/** The host's words for a failed system call, as `perror` has them: `No such file or directory`. */
export function systemMessage(error: unknown): string {
  const errno = error instanceof Error ? (error as NodeJS.ErrnoException).errno : undefined
  const text = errno === undefined ? undefined : getSystemErrorMap().get(errno)?.[1]
  if (text !== undefined) return text.charAt(0).toUpperCase() + text.slice(1)
  return error instanceof Error ? error.message : String(error)
}
