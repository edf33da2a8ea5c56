import type { PropertySpec } from './device-type.ts'

/** What the types of processors end in. */
const SUFFIX = '-x86_64-cpu'

/** The type of a processor of a model. */
export function cpuTypeName(model: string): string {
  return `${model}${SUFFIX}`
}

/** Whether it is a name of types of processors, of a model that may not be there. */
export function isCpuType(driver: string): boolean {
  return driver.endsWith(SUFFIX)
}

/** Where a processor goes. */
export const CPU_PROPERTIES: readonly PropertySpec[] = (
  [
    ['socket-id', 'socket'],
    ['die-id', 'die within the socket'],
    ['core-id', 'core within the die'],
    ['thread-id', 'thread within the core'],
  ] as const
).map(([name, what]) => ({ name, type: 'int32', help: `number of the ${what}, from 0` }))
