// Kernel modules for a guest that needs more than its initial RAM disk has.
import { readFileSync, readdirSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { guestFiles } from './guest.ts'
import { root } from './program.ts'

const PACKAGES = `${root}.cache/guests/packages`
const REGULAR = 0o100644

/** An initial RAM disk at `path`: the usual one, and modules of its kernel in the root folder. */
export function initrdWithModules(path: string, modules: readonly string[]): void {
  const kernel = readdirSync(PACKAGES).find((name) => name.startsWith('linux-image'))
  if (kernel === undefined) throw new Error(`${PACKAGES} has no linux-image: run npm test once`)
  const folder = join(PACKAGES, kernel, 'root/lib/modules')
  const drivers = join(folder, readdirSync(folder)[0]!, 'kernel/drivers')
  const entries = modules.map((name) =>
    entry(`/${basename(name)}.ko`, readFileSync(join(drivers, `${name}.ko`))),
  )
  const archive = Buffer.concat([...entries, entry('TRAILER!!!', Buffer.alloc(0))])
  writeFileSync(path, Buffer.concat([readFileSync(guestFiles.initrd), archive]))
}

/** One file of a cpio archive in the "new ASCII" format. */
function entry(name: string, data: Buffer): Buffer {
  const fields = [0, REGULAR, 0, 0, 1, 0, data.length, 0, 0, 0, 0, name.length + 1, 0]
  const header = `070701${fields.map((n) => n.toString(16).padStart(8, '0')).join('')}${name}\0`
  return Buffer.concat([padded(Buffer.from(header)), padded(data)])
}

function padded(bytes: Buffer): Buffer {
  return Buffer.concat([bytes, Buffer.alloc(-bytes.length & 3)])
}
