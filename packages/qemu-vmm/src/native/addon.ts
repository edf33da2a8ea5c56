/** Finds and loads the addon. No other file knows where it is. */

import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { VmmError } from '../errors.ts'

const require = createRequire(import.meta.url)
let loaded: unknown

/**
 * The addon, loaded at the first call, as one of its modules.
 * @throws VmmError E_NO_ADDON when it was not built, or does not fit this platform
 */
export function addon<Module>(): Module {
  loaded ??= load()
  return loaded as Module
}

function load(): unknown {
  const { platform, arch } = process
  if (platform !== 'linux' || arch !== 'x64') {
    throw missing(`it exists for Linux on x86-64 only, this is ${platform} ${arch}`)
  }
  // `src/native` and `dist/bundle` are equally deep: the file lies in `native` beside both.
  const path = fileURLToPath(new URL('../../native/qemu-vmm.linux-x64-gnu.node', import.meta.url))
  if (!existsSync(path)) throw missing(`${path} does not exist: run \`npm run build\``)
  try {
    return require(path)
  } catch (error) {
    throw missing(`${path} cannot be loaded: run \`npm run build\` again`, error)
  }
}

function missing(reason: string, cause?: unknown): VmmError {
  return new VmmError('E_NO_ADDON', `no native addon: ${reason}`, { cause })
}
