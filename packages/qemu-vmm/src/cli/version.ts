import { readFileSync } from 'node:fs'

/** The release of QEMU whose command line, monitor and machine this program follows. */
export const QEMU_VERSION = '7.2.0'

/** The version of this package. */
export function packageVersion(): string {
  const url = new URL('../../package.json', import.meta.url)
  const manifest: unknown = JSON.parse(readFileSync(url, 'utf8'))
  if (typeof manifest === 'object' && manifest !== null && 'version' in manifest) {
    return String(manifest.version)
  }
  return 'unknown'
}

/**
 * The answer to `-version`. Programs look for `QEMU emulator version N.N.N` to know which options
 * they can use; the first words say who really answers.
 */
export function versionText(): string {
  return `qemu-vmm ${packageVersion()}, with the interface of QEMU emulator version ${QEMU_VERSION}`
}
