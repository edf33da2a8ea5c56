// Where things are. Scripts may be called from any folder.
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'

export const root = fileURLToPath(new URL('../../', import.meta.url))
export const cache = join(root, '.cache')
export const core = join(root, 'packages/kvm-core')
export const vmm = join(root, 'packages/qemu-vmm')
/** The folders with a Cargo workspace. */
export const workspaces = [core, join(vmm, 'native')]

/** @param {string} name a command of a dependency or of a workspace package */
export const bin = (name) => join(root, 'node_modules/.bin', name)
