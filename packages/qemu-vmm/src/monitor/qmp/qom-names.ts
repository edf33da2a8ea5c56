/** The path of a processor in QEMU's object model. */
export function cpuPath(index: number): string {
  return `/machine/unattached/device[${index}]`
}

/** The type of a processor of a model. */
export function cpuTypeName(model: string): string {
  return `${model}-x86_64-cpu`
}
