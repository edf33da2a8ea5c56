import { constants } from 'node:os'

const ENDING = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const

/**
 * Calls `onSignal` for the first signal that asks the process to end, with its number; the second
 * one ends the process at once, in case that the orderly way hangs.
 *
 * @returns removes the handlers
 */
export function onTermination(onSignal: (signal: number) => void): () => void {
  let isEnding = false
  const handler = (name: NodeJS.Signals): void => {
    if (isEnding) process.exit(1)
    isEnding = true
    onSignal(constants.signals[name])
  }
  for (const name of ENDING) process.on(name, handler)
  return () => {
    for (const name of ENDING) process.off(name, handler)
  }
}
