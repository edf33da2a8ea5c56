import { join } from 'node:path'

/**
 * What all bundles of a package have in common.
 * @param {string} folder of the package
 * @param {Readonly<Record<string, string>>} entries names of files, and modules below `src`
 */
export function bundleOptions(folder, entries) {
  return /** @type {const} */ ({
    absWorkingDir: folder,
    entryPoints: Object.fromEntries(
      Object.entries(entries).map(([out, module]) => [out, join('src', module)]),
    ),
    bundle: true,
    platform: 'node',
    minifyWhitespace: true,
    target: 'node20.19',
    write: false,
    logLevel: 'warning',
  })
}
