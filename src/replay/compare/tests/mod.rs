mod answers;
mod coding;
mod downstream;
mod simulation;
