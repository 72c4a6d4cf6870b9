# Sourced by the run scripts. `launch PROGRAM CONFIG [ANOTHER_CONFIG] [key=value …]`; an empty PROGRAM is the one that the YAML names.
# GPUS=0,1 starts one process per GPU where the program knows how. `demo_encoder METHOD`: the demo's data and encoder, unless they are there.
here="$PWD"; source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
demo="configs/${SETTING:-demo}" # SETTING=test: a few records and steps, as the tests run every script
launch() {
  local program="$1" config="$2" count=1 found python=(python); shift 2
  if [[ $# -gt 0 && "$1" != *=* && "$1" != -* ]]; then config="$1"; shift; [[ ! -f "$here/$config" ]] || config="$here/$config"; fi
  found=$(python -m shared.programs "${program:-$config}" "$@") # parallel|single MODULE
  if [[ "${GPUS:-}" == *,* && "$found" == parallel* ]]; then
    count=$(tr ',' '\n' <<< "$GPUS" | wc -l); python+=(-m torch.distributed.run --standalone --nproc-per-node "$count")
  fi
  [[ -z "${GPUS:-}" ]] || export CUDA_VISIBLE_DEVICES="$([[ $count -gt 1 ]] && echo "$GPUS" || echo "${GPUS%%,*}")"
  "${python[@]}" -m "${found#* }" ${config:+"$config"} "$@"
}
demo_encoder() { launch shared.data.prepare "$demo/synthetic.yaml"; launch "${1}_modified.pretrain" "$demo/${1}_pretrain.yaml"; }
