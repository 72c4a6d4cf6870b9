"""The programs of ST-MEM: the name that a YAML's `program:` gives → its config class and module."""

from shared.programs import Program

PROGRAMS = {
    "st_mem_modified.pretrain": Program("st_mem_modified.config:PretrainConfig", "st_mem_modified.pretrain"),
    "st_mem_modified.finetune": Program("st_mem_modified.finetune:FinetuneConfig", "st_mem_modified.finetune"),
    "st_mem_modified.triplet": Program("st_mem_modified.triplet:TripletConfig", "st_mem_modified.triplet"),
    "st_mem_modified.vqvae": Program("st_mem_modified.vqvae.config:VQTrainConfig", "st_mem_modified.vqvae.train"),
    "st_mem_modified.evaluate": Program("shared.evaluation.config:EvaluateConfig", "st_mem_modified.evaluate"),
}
