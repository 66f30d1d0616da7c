mod answers;
mod simulation;
