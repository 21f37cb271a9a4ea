# Completion of graft's verbs, options, choices and files for bash. Verbs and options are read from the program's own
# --help, so they are never out of date.  Use:  source scripts/graft-completion.bash

# _graft_words <program> [verb…]: the verbs and long options that this level's --help lists.
_graft_words() {
  "$@" --help 2>/dev/null | awk '
    /^Examples?:/ { exit }
    /^[A-Za-z].*:$/ { in_verbs = ($0 ~ /^(Subcommands|SUBCOMMANDS|Verbs|Commands)/) }
    in_verbs && /^  [a-z]/ { print $1 }
    { line = $0
      while (match(line, /--[a-z][a-z0-9-]*/)) {
        print substr(line, RSTART, RLENGTH)
        line = substr(line, RSTART + RLENGTH)
      } }' | sort -u
}

_graft() {
  local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} choices=""
  case $previous in
    --device) choices="auto cpu cuda reference" ;;
    --precision) choices="auto f32 tf32 bf16 f16" ;;
    --recompute) choices="none norms" ;;
    --arch) choices="resnet18 resnet34 resnet50 resnet101 resnet152 densenet121 densenet169 densenet201 vgg11 vgg11_bn vgg13 vgg13_bn vgg16 vgg16_bn vgg19 vgg19_bn" ;;
    --strategy) choices=$("${COMP_WORDS[0]}" strategies --json 2>/dev/null | grep -o '"name": *"[^"]*"' | cut -d'"' -f4) ;;
    --optimizer) choices="sgd adam adamw" ;;
    --schedule) choices="constant cosine step one-cycle" ;;
    --stride-on) choices="3x3 1x1" ;;
    --preprocess) choices="torch caffe none" ;;
    --format) choices="auto pth safetensors keras" ;;
    --sort) choices="time network" ;;
    --split) choices="train val test all" ;;
    --to) choices="file medmnist mlflow" ;;
    --class-weights) choices="none balanced" ;;
  esac

  if [[ -z $choices ]]; then
    local command=("${COMP_WORDS[0]}") word
    for word in "${COMP_WORDS[@]:1:2}"; do
      [[ $word =~ ^[a-z][a-z-]*$ && $word != "$current" ]] || break
      command+=("$word")
    done
    if ((COMP_CWORD == 1)) || [[ $current == -* ]] ||
      [[ $COMP_CWORD == 2 && ${COMP_WORDS[1]} =~ ^(weights|data|study)$ ]]; then
      choices=$(_graft_words "${command[@]}")
    fi
  fi

  if [[ -n $choices ]]; then
    mapfile -t COMPREPLY < <(compgen -W "$choices" -- "$current")
  else
    compopt -o filenames
    mapfile -t COMPREPLY < <(compgen -f -- "$current")
  fi
}

complete -F _graft graft
