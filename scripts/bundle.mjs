// What the packages publish: their modules joined into a few files. A command has some four hundred modules, which it would
// load twice, as its devices have a thread of their own: to find and read each took half a second of every start.
import { join } from 'node:path'
import { build } from 'esbuild'
import { bundleScripts } from './bundle-scripts.mjs'
import { bundleOptions } from './lib/bundle-options.mjs'
import { replaceFiles } from './lib/replace-files.mjs'
import { root } from './lib/paths.mjs'

/**
 * The entry points of each package: names of published files, and modules below `src`. They share what they have in
 * common, so that a class is the same whichever way a program comes to it.
 * @type {Readonly<Record<string, Readonly<Record<string, string>>>>}
 */
const packages = {
  'kvm-core': {
    index: 'index.ts',
    testing: 'testing/index.ts',
    'probe-guest': 'probe-guest.ts',
  },
  virtio: { index: 'index.ts', testing: 'testing/index.ts' },
  'qemu-vmm': {
    index: 'index.ts',
    'command-line': 'command-line.ts',
    'qemu-img': 'qemu-img/main.ts',
    worker: 'machine/host/worker.ts',
  },
  'libvirt-lite': {
    index: 'index.ts',
    rpc: 'rpc/index.ts',
    'libvirt-lite': 'cli/main.ts',
  },
}

/** Writes `dist/bundle` of all packages, and the scripts of the command, as far as they are not there. */
export async function bundle() {
  for (const [name, entries] of Object.entries(packages)) {
    const folder = join(root, 'packages', name)
    const outdir = join(folder, 'dist/bundle')
    const { outputFiles } = await build({
      ...bundleOptions(folder, entries),
      outdir,
      splitting: true,
      format: 'esm',
      packages: 'external',
      sourcemap: 'linked',
    })
    replaceFiles(outdir, outputFiles)
  }
  await bundleScripts()
}
