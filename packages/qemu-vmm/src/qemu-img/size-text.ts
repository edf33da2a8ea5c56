/** Three significant digits in the unit that gives less than 1000, as QEMU writes sizes. */
export function sizeText(bytes: number): string {
  const units = ['B', 'KiB', 'MiB', 'GiB', 'TiB', 'PiB', 'EiB']
  const exponent = bytes < 1 ? 0 : Math.max(0, Math.floor(Math.log2(bytes / (1000 / 1024)) / 10))
  const value = bytes / 1024 ** exponent
  return `${Number(value.toPrecision(3))} ${units[exponent]!}`
}
