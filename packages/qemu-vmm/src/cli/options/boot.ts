import type { OptionGroup } from '../option.ts'
import { fwCfg } from './fw-cfg.ts'

export const boot: OptionGroup = {
  title: 'Linux and multiboot',
  options: [
    {
      name: 'kernel',
      argument: 'file',
      help: ['boot this kernel: a bzImage, an ELF file with a PVH entry, or a multiboot image'],
      apply(settings, value) {
        settings.kernel = value
      },
    },
    {
      name: 'initrd',
      argument: 'file',
      help: ['initial RAM disk; for multiboot, modules separated by commas'],
      apply(settings, value) {
        settings.initrd = value
      },
    },
    {
      name: 'append',
      argument: 'cmdline',
      help: ['command line of the kernel'],
      apply(settings, value) {
        settings.append = value
      },
    },
    fwCfg,
  ],
}
