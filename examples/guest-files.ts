// Where the guest kernel and its file system are: made by the demo's set-up, or named in the environment.
import { existsSync } from 'node:fs'
import { fileURLToPath } from 'node:url'

const folder = fileURLToPath(new URL('../.cache/guests/', import.meta.url))

/** A Linux kernel. */
export const kernel: string = process.env['KERNEL'] ?? `${folder}vmlinuz`
/** An initial RAM disk with a shell on the serial console. */
export const initrd: string = process.env['INITRD'] ?? `${folder}initramfs.cpio`
/** The same with drivers for VirtIO. */
export const networkInitrd: string = process.env['INITRD'] ?? `${folder}initrd-disk.cpio`

if (!existsSync(kernel) || !existsSync(initrd)) {
  throw new Error('no guest files: run "node scripts/guests.mjs", or set KERNEL and INITRD')
}
