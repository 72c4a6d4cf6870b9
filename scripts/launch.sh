# Sourced by the run scripts: `launch MODULE DEFAULT_CONFIG [CONFIG] [key=value …]`. GPUS=0,1 starts one process per GPU.
# `demo_encoder METHOD`: the demo's data and encoder, made where they are not there yet.
here="$PWD"
source "$(dirname "$(readlink -f "${BASH_SOURCE[0]}")")/setup.sh"
demo="configs/${SETTING:-demo}" # SETTING=test: a few records and steps, as the tests run every script
launch() {
  local module="$1" config="$2"; shift 2
  if [[ $# -gt 0 && "$1" != *=* && "$1" != -* ]]; then config="$1"; shift; [[ ! -f "$here/$config" ]] || config="$here/$config"; fi
  local command=(python -m "$module")
  if [[ -n "${GPUS:-}" ]]; then
    export CUDA_VISIBLE_DEVICES="$GPUS"
    local count; count=$(tr ',' '\n' <<< "$GPUS" | wc -l)
    [[ $count -eq 1 ]] || command=(python -m torch.distributed.run --standalone --nproc-per-node "$count" -m "$module")
  fi
  "${command[@]}" "$config" "$@"
}
demo_encoder() {
  GPUS="" launch shared.data.prepare "$demo/synthetic.yaml"
  launch "${1}_modified.pretrain" "$demo/${1}_pretrain.yaml"
}
