"""The programs of ECG-JEPA: the name that a YAML's `program:` gives → its config class and module."""

from shared.programs import Program

PROGRAMS = {
    "ecg_jepa_modified.pretrain": Program("ecg_jepa_modified.config:PretrainConfig", "ecg_jepa_modified.pretrain"),
    "ecg_jepa_modified.finetune": Program("ecg_jepa_modified.finetune:FinetuneConfig", "ecg_jepa_modified.finetune"),
    "ecg_jepa_modified.triplet": Program("ecg_jepa_modified.triplet:TripletConfig", "ecg_jepa_modified.triplet"),
    "ecg_jepa_modified.evaluate": Program("shared.evaluation.config:EvaluateConfig", "ecg_jepa_modified.evaluate"),
}
