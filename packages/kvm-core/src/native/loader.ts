/** Finds and loads the addon. No other file knows where it is. */

import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { fileURLToPath } from 'node:url'
import { KvmError } from '../errors.ts'
import type { Addon } from './addon.ts'

const require = createRequire(import.meta.url)
let loaded: Addon | undefined

/**
 * The addon, loaded at the first call.
 * @throws KvmError E_NO_ADDON when it was not built, or does not fit this platform.
 */
export function addon(): Addon {
  loaded ??= load()
  return loaded
}

function load(): Addon {
  const { platform, arch } = process
  if (platform !== 'linux' || arch !== 'x64') {
    throw missing(`it exists for Linux on x86-64 only, this is ${platform} ${arch}`)
  }
  // `src/native` and `dist/bundle` are equally deep: the file lies in `native` beside both.
  const path = fileURLToPath(new URL(`../../native/kvm-core.linux-x64-gnu.node`, import.meta.url))
  if (!existsSync(path)) throw missing(`${path} does not exist: run \`npm run build\``)
  try {
    return require(path) as Addon
  } catch (error) {
    throw missing(`${path} cannot be loaded: run \`npm run build\` again`, error)
  }
}

function missing(reason: string, cause?: unknown): KvmError {
  return new KvmError('ENOENT', `no native addon: ${reason}`, 'E_NO_ADDON', { cause })
}
