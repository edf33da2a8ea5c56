import { closeSync, openSync, writeSync } from 'node:fs'
import { CliError, PROGRAM } from './cli-error.ts'
import { printError } from './stderr.ts'
import { systemMessage } from './system-error.ts'

/** Where messages about the machine go. */
export interface Log {
  write(message: string): void
  close(): void
}

/** The same with the time, in QEMU's form, in front of each message. */
export function withTimes(log: Log, now: () => Date): Log {
  return { ...log, write: (message) => log.write(`${now().toISOString()} ${message}`) }
}

/**
 * @param path a file, which is emptied first; absent: standard error
 * @throws CliError when the file cannot be opened
 */
export function openLog(path: string | undefined): Log {
  if (path === undefined) {
    return { write: (message) => printError(`${PROGRAM}: ${message}\n`), close() {} }
  }
  const fd = openLogFile(path)
  return {
    write(message) {
      try {
        writeSync(fd, `${message}\n`)
      } catch {
        // A full disk must not end the machine, and there is nowhere left to say so.
      }
    },
    close: () => closeSync(fd),
  }
}

function openLogFile(path: string): number {
  try {
    return openSync(path, 'w')
  } catch (error) {
    throw new CliError(`Error opening logfile ${path}: ${systemMessage(error)}`)
  }
}
