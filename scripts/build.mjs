// npm run build: dependencies, native addon, TypeScript. Each step is skipped when it has nothing to do.
import { fileURLToPath } from 'node:url'
import { bin, root } from './lib/paths.mjs'
import { must, script } from './lib/run.mjs'
import { buildNative } from './native.mjs'
import { setup } from './setup.mjs'

/** Makes the published entry points of all packages ready to use. */
export async function build() {
  await setup()
  await buildNative()
  const packages = [
    'packages/kvm-core',
    'packages/virtio',
    'packages/qemu-vmm',
    'packages/libvirt-lite',
  ]
  // Declarations, which are what the compiler is for; and what is loaded.
  await must(bin('tsc'), ['-b', ...packages], { cwd: root })
  // Not before its dependencies are there.
  const { bundle } = await import('./bundle.mjs')
  await bundle()
}

if (process.argv[1] === fileURLToPath(import.meta.url)) await script(build)
