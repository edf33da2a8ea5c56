/** Processor models that `-cpu` takes. */
export const CPU_MODELS = [
  { name: 'qemu64', help: 'a 64-bit processor with what every such guest expects' },
  { name: 'max', help: 'every feature that the accelerator has' },
  { name: 'host', help: "the host's processor, as far as the accelerator can show it" },
] as const
